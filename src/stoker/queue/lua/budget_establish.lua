-- ARGV: now, how long nothing is leased in ms.
redis.call('HSETNX', BOOKS, 'opens_at', now + tonumber(ARGV[2]))
