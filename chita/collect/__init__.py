"""Statistics of a network on data: what fills a `Rows`."""
