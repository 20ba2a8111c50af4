"""Where tensors lie and in which dtype: transfers to a GPU, what rests in main memory meanwhile, precision."""
