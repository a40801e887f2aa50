"""vivim: the short-video recommender that looks at the video.

The repository root is this package. Rooms (``ssm``, ``store``, ``extract``, ``recommend``, ``serve``,
``demo``) are imported by name, ``from vivim.recommend import Recommender``; importing ``vivim`` alone
loads nothing heavy.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
