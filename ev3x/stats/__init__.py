"""The statistics that assessors are made of: moments of blocks, bets on differences, intervals of a rate."""
