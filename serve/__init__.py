"""A trained recommender answering people: the service, its page, the report."""
