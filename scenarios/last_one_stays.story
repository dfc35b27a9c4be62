# The last data node is not taken out, whatever was given up before.
seed 4101
cluster n1 n2 witness w durability async
late 3
load 3 193ms
when checkpoint:1 any kill leader for 4196ms
kill leader backend
wait 1457ms
wait 1651ms
maybe failover losing n2
maybe remove n1
leaderless for 622ms
calm
maybe resume
expect serving within 60s
maybe resume
expect rule nobody within 150s
expect serving within 60s
end
