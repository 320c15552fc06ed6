"""What is known: the ledger of scenes, the items, the collection and the STAC API."""
