# No standby reaches the leader's PostgreSQL, and all agents reach each other: nobody misses the leader, which resigns, since its standbys can do without it ((c)).
cluster n1 n2 n3 durability quorum
lead n1
load 40 100ms
wait 2s
close-port n1
expect term 2 leader n2|n3 within 7s
expect serving within 8s
expect term 2 for 20s
heal
expect rule all within 30s
expect term 2
end
