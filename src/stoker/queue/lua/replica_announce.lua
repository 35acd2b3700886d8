-- KEYS: replicas, their expiry. ARGV: now, id, JSON, time to live in ms.
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[4]), ARGV[2])
return 1
