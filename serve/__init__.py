"""A trained recommender answering people: what happened is kept, states are updated in constant time, lists are searched."""
