"""Is a clip what its label says? Cheap gates, independent witnesses, and the four questions to a judge."""
