"""How good a restoration is: metrics, simulated and real captures with references, the benchmark."""
