"""Where versions are kept beside the local disk: buckets named by URIs, and the cache of what comes from them."""
