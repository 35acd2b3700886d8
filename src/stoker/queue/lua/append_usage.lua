-- ARGV: now, id of the record, the record (JSON), its scopes. Once for each record: who is not sure calls again.
if redis.call('SET', APPENDED_PREFIX .. ARGV[2], '1', 'NX', 'PX', REMEMBERED_MS) then
  count_late(counters_of(ARGV[4]), {}, ARGV[3])
  redis.call('XADD', USAGE_STREAM, '*', 'r', ARGV[3])
end
return 1
