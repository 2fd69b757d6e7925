"""Public data sets, fetched on request and never otherwise."""

from synthmed.data.download.catalogue import CATALOGUE, Offer, find_offer
from synthmed.data.download.get import get_dataset

__all__ = ["CATALOGUE", "Offer", "find_offer", "get_dataset"]
