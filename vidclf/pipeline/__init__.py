"""The Ray Data pipeline that `extract` and `classify` share."""
