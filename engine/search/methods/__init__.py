"""Search methods, one folder each.

Each folder holds `config.py` and `method.py`. This module imports every `config.py`, none of which needs torch. A `method.py` is
imported only when a search runs. To add a method, add a folder and one line below. Methods are listed in the order of these
lines: ARNAS, DSARA and the two versions of E2RNAS, then the baselines.
"""

from engine.search.methods.arnas import config as _arnas  # noqa: F401
from engine.search.methods.dsara import config as _dsara  # noqa: F401
from engine.search.methods.e2rnas import config as _e2rnas  # noqa: F401
from engine.search.methods.e2rnas2021 import config as _e2rnas2021  # noqa: F401
from engine.search.methods.darts import config as _darts  # noqa: F401
from engine.search.methods.pcdarts import config as _pcdarts  # noqa: F401
from engine.search.methods.advrush import config as _advrush  # noqa: F401
from engine.search.methods.random_search import config as _random_search  # noqa: F401
