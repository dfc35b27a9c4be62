# Somebody calls pg_promote() on a standby in the moment of an election. It takes a timeline of its own,
# which must not be the one that the election gave to another.
seed 477
cluster n1 n2 n3 durability quorum
late 1 elected
load 3 100ms
promote n2
expect serving within 60s
expect rule all within 150s
expect serving within 60s
end
