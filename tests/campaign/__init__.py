"""Drills: a whole deployment on real servers, every fault by itself and all of them in one campaign."""
