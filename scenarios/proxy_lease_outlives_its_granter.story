# n2 grants a read to n1, and its agent ends and begins again at once, knowing nothing of that. A proxy that is cut
# off with n1 may still give that read: n2 does not answer the next term before it has ended.
cluster n1 n2 n3 witness w witness v acks 2 durability quorum
lead n1
proxy p1 strict
wait 1s
expect leased p1 within 1s
crash n2 agent
cut n1
failover n2
expect term 2 leader n2 within 3s
wait 2s
end
