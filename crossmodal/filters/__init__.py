"""Conditions on a document's tags and modality, written as JSON.

::

    wanted = parse_filter({"place": "harbour", "year": {"$gte": 2019}})
    wanted.matches("image", {"place": "harbour", "year": 2020})

The operators are ``$eq``, ``$ne``, ``$eqi`` (text, whatever its case), ``$in``, ``$nin``, ``$lt``, ``$lte``,
``$gt``, ``$gte`` and ``$exists``, joined by ``$and``, ``$or`` and ``$not``; several keys of one
object mean and. Dates (``taken``) compare by the parts that are given, ``location`` by distance: ``$near``
with ``$within_km``. ``$ids`` lists documents by their ids, with all that is part of them.
"""

from crossmodal.filters.conditions import (
    COMPARISONS,
    MODALITY_FIELD,
    And,
    EqualsCaseless,
    Exists,
    Filter,
    Identified,
    Not,
    OneOf,
    Or,
    Range,
    RangeOperator,
    TagValues,
    caseless,
    collect_values,
    conditions,
    field_name,
    number_of,
    tag_name,
)
from crossmodal.filters.dates import Period
from crossmodal.filters.parsing import parse_filter
from crossmodal.filters.places import Near

__all__ = [
    "COMPARISONS",
    "MODALITY_FIELD",
    "And",
    "EqualsCaseless",
    "Exists",
    "Filter",
    "Identified",
    "Near",
    "Not",
    "OneOf",
    "Or",
    "Period",
    "Range",
    "RangeOperator",
    "TagValues",
    "caseless",
    "collect_values",
    "conditions",
    "field_name",
    "number_of",
    "parse_filter",
    "tag_name",
]
