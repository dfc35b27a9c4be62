# A former leader that handed over long ago and has acknowledged since is not heard: what it resigned with says nothing.
cluster n1 n2 n3 durability quorum
lead n1
write w1
switchover n2
expect term 2 leader n2 within 5s
expect rule n1 n3 within 30s
write w2
cut n3 n2
wait 100ms
write w3
freeze n1 agent for 2s
heal
kill n2 postmaster
expect term 3 leader n1|n2|n3 within 10s
expect durable w3
end
