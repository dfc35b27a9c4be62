# A leader hears that the durability is quorum now, and is cut off before a rule of quorum is agreed: its rule is async's, and so is its lease.
cluster n1 n2 n3 durability async
weather 20ms 1ms
lead n1
load 8 40ms
wait 2s
durability quorum
wait 8ms
cut n1
expect term 2 leader n2|n3 within 20s
wait 10s
end
