"""A trained model on new data: loading, predicting, packing, compressing."""
