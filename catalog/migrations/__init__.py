"""Schema migrations, applied by `catalog.session.migrate`."""
