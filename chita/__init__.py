"""Prune trained networks: which weights go, and how the rest change, chosen together.

Names are imported when they are first used, so that `import chita` and `chita --help` are quick;
`__init__.pyi` lists them.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
