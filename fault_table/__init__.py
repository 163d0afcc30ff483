"""The fault table: ``python -m fault_table PROCEDURE`` repeats a simulated run once for every fault on its wires."""
