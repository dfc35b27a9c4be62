# Both standbys must acknowledge; one has left the leader's history and wants out of the rule, the other is taken out: that one stays until the first is back.
cluster n1 n2 n3 durability quorum acks 2
lead n1
load 6 50ms
wait 3s
promote n2
wait 50ms
remove n3
expect accepted
expect serving within 30s
expect rule n2 within 60s
expect history "n3 was taken out" within 60s
end
