"""The catalog without a server: STAC JSON whose links hold among themselves, and tables of it as stac-geoparquet.

Kept incrementally from the change feed: a run writes the documents of items that changed, the catalogs above them, and
last of all how far it came, so a run that is broken off is simply repeated.
"""

from catalog.export.keeper import Exported, export_catalog
from catalog.export.shelf import Shelf

__all__ = ["Exported", "Shelf", "export_catalog"]
