"""A cluster's API, for whoever applies objects to it or looks at them."""
