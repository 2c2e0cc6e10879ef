"""One language model on several processes: each holds a part of every large layer, packed as it is stored."""
