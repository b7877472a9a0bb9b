from importlib.util import find_spec

from mmlocal.utils import quiet_imports

from .backbones import *  # noqa: F403
from .local_heads import *  # noqa: F403
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403

if find_spec('mmpretrain'):
    with quiet_imports():
        from .multi_view import *  # noqa: F403
