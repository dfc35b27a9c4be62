# No standby reaches any leader's PostgreSQL: terms change ever more seldom (6 in 112 s, not 34).
cluster n1 n2 n3 durability quorum
lead n1
load 10 50ms
wait 2s
close-port n1
close-port n2
close-port n3
wait 110s
expect term 6 for 10s
heal
expect serving within 60s
expect rule all within 90s
end
