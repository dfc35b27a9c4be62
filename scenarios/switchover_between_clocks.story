# Hosts whose clocks are half an hour apart: a switchover that one of them takes down is not overdue for the other
# when it is asked for.
seed 24
cluster n1 n2 n3 durability quorum
lead n2
load 3 100ms
jump n2 +1800000ms
wait 3s
switchover n3
expect accepted
expect leader n3 within 5s
expect rule n1 n2 within 30s
end
