-- ARGV: now. Returns the owners whose time is over, or that somebody has taken over.
return redis.call('ZRANGEBYSCORE', OWNERS, '-inf', now)
