"""Where workers run. A distributor knows shards, reports and a callable; what the callable does is not its business."""
