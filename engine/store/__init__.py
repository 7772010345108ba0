"""Copies of runs in an object store, through which machines without a shared folder show and continue each other's runs."""
