# A leader that is cut off from the store, but not from a standby, is deposed by an operator: that standby has promised another, and grants nothing.
cluster n1 n2 n3 witness u witness v durability quorum
lead n1
wait 2s
cut n1 n3
cut n1 u
cut n1 v
failover n3
expect term 2 leader n2|n3 within 10s
wait 15s
load 60 40ms
wait 2s
end
