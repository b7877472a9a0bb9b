import logging
import sys

from mmengine.logging import print_log

from mmlocal.utils import quiet_imports


def test_the_notice_is_dropped_and_nothing_else(capsys):
    with quiet_imports():
        print('before')
        print_log('Could not import OneDL', level=logging.DEBUG)
        print('after')
        print()
    print_log('Could not import OneDL', level=logging.DEBUG)
    lines = capsys.readouterr().out.split('\n')
    assert lines == ['before', 'after', '', 'Could not import OneDL', '']


def test_a_log_handler_made_meanwhile_goes_on_working(capsys):
    with quiet_imports():
        handler = logging.StreamHandler(sys.stdout)
    handler.emit(logging.makeLogRecord({'msg': 'later'}))
    assert capsys.readouterr().out == 'later\n'
