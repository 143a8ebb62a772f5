-- Which of so many exporters follows a model: Lamping and Veach's jump consistent hash (2014) of
-- the name. One shard more takes its models evenly from the others, and no other model moves.
-- Numeric, because the generator needs 64 bits without a sign.
create function shard_of(model_name text, shards integer) returns integer
language plpgsql immutable strict parallel safe as $$
declare
    modulus constant numeric := 18446744073709551616;
    key numeric := ('x' || left(md5(model_name), 16))::bit(64)::bigint;
    shard bigint := 0;
    next_shard bigint := 0;
begin
    key := mod(key + modulus, modulus);
    while next_shard < shards loop
        shard := next_shard;
        key := mod(key * 2862933555777941757 + 1, modulus);
        next_shard := floor((shard + 1) * 2147483648::numeric / (div(key, 8589934592) + 1));
    end loop;
    return shard;
end
$$;
