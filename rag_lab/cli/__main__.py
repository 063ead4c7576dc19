"""`python -m rag_lab.cli`."""

from rag_lab.cli import main

main()
