from .audio_preprocessor import *  # noqa: F403
from .backbones import *  # noqa: F403
from .local_heads import *  # noqa: F403
from .losses import *  # noqa: F403
from .necks import *  # noqa: F403
