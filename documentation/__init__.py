"""The documentation site: what is generated when it is built, beside the pages in docs/."""
