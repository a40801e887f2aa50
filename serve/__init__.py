"""A trained recommender answering people: events that are kept, states that are stepped, lists that are searched; the page; the report."""
