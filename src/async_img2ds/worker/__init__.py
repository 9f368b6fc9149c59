"""What a worker process does: shards in, reports out."""
