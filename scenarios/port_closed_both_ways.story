# Of two nodes neither reaches the other's PostgreSQL: terms change, but ever more seldom, and writes go on once one can be reached.
cluster n1 n2 witness w durability quorum
lead n1
write w1
load 40 100ms
wait 2s
close-port n1
close-port n2
wait 120s
heal
expect serving within 60s
expect rule all within 60s
expect durable w1
end
