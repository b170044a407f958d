def takes(model): return False
