# Paused; the leader's port is closed. No term begins by itself.
cluster n1 n2 n3 durability quorum
lead n1
write w1
pause
close-port n1
expect term 1 for 30s
