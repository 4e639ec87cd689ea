"""What `python -m data_prep fetch` can bring: one file per source, and this table of them."""

from collections.abc import Callable
from pathlib import Path

from data_prep.fetch.fillets import fetch_fillets
from data_prep.fetch.minilm import fetch_minilm
from data_prep.fetch.sentiment import fetch_sentiment

Say = Callable[[str], None]

SOURCES: dict[str, Callable[[Path, Say], None]] = {
    "fillets": fetch_fillets,
    "sentiment": fetch_sentiment,
    "minilm": fetch_minilm,
}
