from collections import OrderedDict, namedtuple

import torch

from mmlocal.models.structure import floats, leaves, map_leaves, replaced

Pair = namedtuple('Pair', 'first second')


def nested():
    a, b, c = (torch.full((1,), float(i)) for i in range(3))
    ids = torch.arange(2)
    return OrderedDict(x=[a, Pair(b, ids)], y={'z': (c, None, 'text')})


def test_paths_of_what_floats():
    value = nested()
    found = floats(value)
    assert list(found) == [('x', 0), ('x', 1, 0), ('y', 'z', 0)]
    assert found['x', 1, 0] is value['x'][1].first


def test_replacing_keeps_kinds_and_shares_the_rest():
    value = nested()
    new = replaced(value, {('x', 1, 0): 'new'})
    assert type(new) is OrderedDict and type(new['x'][1]) is Pair
    assert new['x'][1].first == 'new' and value['x'][1].first != 'new'
    assert new['y'] is value['y'] and new['x'][0] is value['x'][0]
    assert replaced(value, {}) is value
    assert replaced(3, {(): 4}) == 4


def test_mapping_visits_all_leaves():
    seen = map_leaves(nested(), lambda leaf: type(leaf).__name__)
    assert seen['x'][1] == Pair('Tensor', 'Tensor')
    assert seen['y'] == {'z': ('Tensor', 'NoneType', 'str')}
    assert len(list(leaves(seen))) == 6
