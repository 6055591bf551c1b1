"""How sure a prediction is: temperature, trust score, risk threshold, OOD score, early exit."""
