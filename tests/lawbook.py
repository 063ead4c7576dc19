"""A small book of law and a small list of shows that tests name things from."""

from __future__ import annotations

from llama_index.core.schema import Document

from rag_lab.corpora import Corpus
from rag_lab.corpora.base import in_memory
from rag_lab.corpora.law import Pasal

SEA = ("uu-2001-7", "UU 7/2001", "Pelabuhan")
SKY = ("uu-2005-9", "UU 9/2005", "Bandar Udara")
ARTICLES = {
    ("1", SEA): "Dermaga adalah tempat kapal ditambatkan.",
    ("2", SEA): "(1) Kapal wajib membayar uang tambat.\n(2) Uang tambat dibayar sebelum berlayar.",
    ("3", SEA): "Nakhoda yang tidak membayar uang tambat dipidana kurungan tiga bulan.",
    ("1", SKY): "Landasan adalah tempat pesawat mendarat.",
    ("2", SKY): "Pesawat wajib membayar uang pendaratan.",
}
SHOWS = {
    "mast": ("Kaze no Mast", "Mast of the Wind", "A sailor mends the mast of an old ship."),
    "mast-2": ("Kaze no Mast 2nd Season", "Mast of the Wind 2", "The sailor sails north."),
    "lamp": ("Akai Lamp", "Red Lamp", "A keeper lights the lamp of a tower by the sea."),
}


def lawbook() -> Corpus:
    """Five articles of two laws."""
    articles = [
        Pasal(
            id=f"{doc}#pasal-{number}",
            doc=doc,
            law=law,
            title=title,
            pasal=number,
            text=text,
            ayat=(("1", ""), ("2", "")) if "(2)" in text else (),
        ).to_document("lawbook", line)
        for line, ((number, (doc, law, title)), text) in enumerate(ARTICLES.items(), start=1)
    ]
    return in_memory("lawbook", articles, language="id")


def shows() -> Corpus:
    """Three shows, two of one series."""
    return in_memory(
        "shows",
        [
            Document(
                id_=key,
                text=plot,
                metadata={"record": "show", "title": name, "titles": [name, english]},
                excluded_embed_metadata_keys=["record", "title"],
            )
            for key, (name, english, plot) in SHOWS.items()
        ],
    )
