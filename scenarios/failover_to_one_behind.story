# An operator names a node that lacks a little of what the leader has: it fetches that, and leads.
cluster n1 n2 n3 durability async
lead n1
load 8 40ms
wait 2s
failover n2
expect term 2 leader n2 within 8s
expect serving within 10s
end
