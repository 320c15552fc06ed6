"""Orchestration and composition: Prefect flows, the command line, and the wiring of the rooms."""
