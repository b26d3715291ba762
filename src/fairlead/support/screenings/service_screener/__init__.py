"""service-screener-v2 behind the port: the operator's checkout, copied for each screening, run safely."""
